// What the model takes on a device, in a form to send back: schemas/kit_latency.schema.json of the package describes it.

import Foundation

public struct Latency: Codable, Equatable {
    /// So many runs after the first.
    public static let count = 50

    public let schema_version: Int
    public let platform: String
    public let file: String
    public let sha256_sums: String
    public let device: String
    public let system: String
    public let threads: Int?
    public let load_ms: Double
    public let first_run_ms: Double
    public let run_p50_ms: Double
    public let run_p95_ms: Double
    public let picture_to_label_ms: Double
    public let runs: Int

    /// Of `runs` in their order, in ms: the first apart, the percentiles of the others.
    init(file: String, device: String, system: String, loadMs: Double, runs: [Double], pictureToLabelMs: Double) {
        let sorted = runs.dropFirst().sorted()
        let at = { (share: Double) in sorted[Int((share * Double(sorted.count)).rounded(.up)) - 1] }
        schema_version = 1
        platform = "ios"
        self.file = file
        sha256_sums = sumsSHA256
        self.device = device
        self.system = system
        threads = nil
        load_ms = loadMs
        first_run_ms = runs[0]
        run_p50_ms = at(0.5)
        run_p95_ms = at(0.95)
        picture_to_label_ms = pictureToLabelMs
        self.runs = sorted.count
    }

    /// The document, with every field.
    public func encode(to encoder: Encoder) throws {
        var fields = encoder.container(keyedBy: CodingKeys.self)
        try fields.encode(schema_version, forKey: .schema_version)
        try fields.encode(platform, forKey: .platform)
        try fields.encode(file, forKey: .file)
        try fields.encode(sha256_sums, forKey: .sha256_sums)
        try fields.encode(device, forKey: .device)
        try fields.encode(system, forKey: .system)
        try fields.encode(threads, forKey: .threads)
        try fields.encode(load_ms, forKey: .load_ms)
        try fields.encode(first_run_ms, forKey: .first_run_ms)
        try fields.encode(run_p50_ms, forKey: .run_p50_ms)
        try fields.encode(run_p95_ms, forKey: .run_p95_ms)
        try fields.encode(picture_to_label_ms, forKey: .picture_to_label_ms)
        try fields.encode(runs, forKey: .runs)
    }

    public func json() throws -> String {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys]
        return String(decoding: try encoder.encode(self), as: UTF8.self)
    }
}
