// What the model takes on a device, in a form to send back: schemas/kit_latency.schema.json of the package describes it.

import Foundation

/// Times in milliseconds: the first run apart, the percentiles of the others.
public struct Latency {
    /// So many runs after the first.
    public static let count = 50

    public let loadMs: Double
    public let firstRunMs: Double
    public let p50Ms: Double
    public let p95Ms: Double
    public let pictureToLabelMs: Double
    private let file: String
    private let device: String
    private let system: String
    private let runs: Int

    /// Of `runs` in their order.
    init(file: String, device: String, system: String, loadMs: Double, runs: [Double], pictureToLabelMs: Double) {
        let sorted = runs.dropFirst().sorted()
        let at = { (share: Double) in sorted[Int((share * Double(sorted.count)).rounded(.up)) - 1] }
        self.loadMs = loadMs
        firstRunMs = runs[0]
        p50Ms = at(0.5)
        p95Ms = at(0.95)
        self.pictureToLabelMs = pictureToLabelMs
        self.file = file
        self.device = device
        self.system = system
        self.runs = sorted.count
    }

    public func json() throws -> String {
        let document: [String: Any] = [
            "schema_version": 1,
            "platform": "ios",
            "file": file,
            "sha256_sums": sumsSHA256,
            "device": device,
            "system": system,
            "threads": NSNull(),
            "load_ms": loadMs,
            "first_run_ms": firstRunMs,
            "run_p50_ms": p50Ms,
            "run_p95_ms": p95Ms,
            "picture_to_label_ms": pictureToLabelMs,
            "runs": runs,
        ]
        let options: JSONSerialization.WritingOptions = [.prettyPrinted, .sortedKeys]
        return String(decoding: try JSONSerialization.data(withJSONObject: document, options: options), as: UTF8.self)
    }
}
