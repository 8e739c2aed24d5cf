#if canImport(CoreML) && canImport(ImageIO)
import CoreGraphics
import CoreML
import CoreVideo
import Foundation

/// Classifies pictures with the Core ML model of the package.
public actor Classifier {
    public nonisolated let package: ModelPackage
    /// Milliseconds from the compiled model to one that can run.
    public nonisolated let loadMs: Double
    private let model: MLModel

    /// Compiles the model, and loads it. Throws where the package is not the one that this kit was made for.
    public init(package: ModelPackage? = nil, units: MLComputeUnits = .all) async throws {
        let package = try package ?? ModelPackage.bundled()
        let compiled = try await MLModel.compileModel(at: package.folder.appendingPathComponent(package.model))
        let configuration = MLModelConfiguration()
        configuration.computeUnits = units
        let began = ContinuousClock.now
        model = try await MLModel.load(contentsOf: compiled, configuration: configuration)
        loadMs = milliseconds(since: began)
        self.package = package
    }

    /// The most probable classes of an upright image, the likeliest first.
    public func classify(_ image: CGImage, count: Int = 5) throws -> [Answer] {
        try classify(pixels(image), count: count)
    }

    /// The most probable classes of a picture file, which is turned as its EXIF orientation says.
    public func classify(_ file: Data, count: Int = 5) throws -> [Answer] {
        try classify(decode(file), count: count)
    }

    /// The most probable classes of each image, in their order. Core ML runs them as one batch.
    public func classify(_ images: [CGImage], count: Int = 5) throws -> [[Answer]] {
        let inputs = try images.map { try input(prepare(pixels($0), package.contract.preparation)) }
        let found = try model.predictions(fromBatch: MLArrayBatchProvider(array: inputs))
        return try (0..<found.count).map { named(try outputs(found.features(at: $0)), count) }
    }

    public func classify(_ pixels: Pixels, count: Int = 5) throws -> [Answer] {
        named(try run(prepare(pixels, package.contract.preparation)), count)
    }

    /// The model's outputs for prepared pixels: logits, or a vector of length 1.
    public func run(_ prepared: Pixels) throws -> [Float] {
        try outputs(model.prediction(from: input(prepared)))
    }

    /// What the model takes on this device. `device` and `system` are for those to whom it is sent.
    public func latency(device: String, system: String) throws -> Latency {
        let picture = Pixels(width: 640, height: 480, channels: 3, data: [UInt8](repeating: 128, count: 640 * 480 * 3))
        let prepared = prepare(picture, package.contract.preparation)
        let runs = try (0...Latency.count).map { _ in try timed { _ = try run(prepared) } }
        return Latency(
            file: package.model, device: device, system: system, loadMs: loadMs, runs: runs,
            pictureToLabelMs: try timed { _ = try classify(picture) })
    }

    private func named(_ logits: [Float], _ count: Int) -> [Answer] {
        answers(logits, labels: package.contract.labels, temperature: package.temperature, count: count)
    }

    private func input(_ prepared: Pixels) throws -> MLFeatureProvider {
        let value = MLFeatureValue(pixelBuffer: try buffer(prepared))
        return try MLDictionaryFeatureProvider(dictionary: [package.contract.input.name: value])
    }

    private func outputs(_ features: MLFeatureProvider) throws -> [Float] {
        let name = package.contract.output.name
        guard let array = features.featureValue(for: name)?.multiArrayValue else {
            throw PackageError(description: "the model has no output \(name)")
        }
        return (0..<array.count).map { array[$0].floatValue }
    }
}

/// RGB in rows as what Core ML takes: BGRA.
private func buffer(_ prepared: Pixels) throws -> CVPixelBuffer {
    var made: CVPixelBuffer?
    let format = kCVPixelFormatType_32BGRA
    guard CVPixelBufferCreate(nil, prepared.width, prepared.height, format, nil, &made) == kCVReturnSuccess,
        let buffer = made
    else { throw PackageError(description: "no buffer of \(prepared.width) x \(prepared.height) pixels") }
    CVPixelBufferLockBaseAddress(buffer, [])
    defer { CVPixelBufferUnlockBaseAddress(buffer, []) }
    let rowBytes = CVPixelBufferGetBytesPerRow(buffer)
    let base = CVPixelBufferGetBaseAddress(buffer)!.assumingMemoryBound(to: UInt8.self)
    for y in 0..<prepared.height {
        for x in 0..<prepared.width {
            let (from, to) = (3 * (y * prepared.width + x), y * rowBytes + 4 * x)
            for channel in 0..<3 { base[to + 2 - channel] = prepared.data[from + channel] }
            base[to + 3] = 255
        }
    }
    return buffer
}

private func timed(_ run: () throws -> Void) rethrows -> Double {
    let began = ContinuousClock.now
    try run()
    return milliseconds(since: began)
}

func milliseconds(since began: ContinuousClock.Instant) -> Double {
    (ContinuousClock.now - began) / .milliseconds(1)
}
#endif
