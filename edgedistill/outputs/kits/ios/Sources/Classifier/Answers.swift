import Foundation

/// A class with its probability.
public struct Answer: Equatable, Identifiable {
    public let label: String
    /// Its place in the labels of the contract.
    public let index: Int
    public let probability: Float
    public var id: Int { index }
}

/// The `count` most probable classes of logits, the likeliest first. `temperature` is the file's in the contract.
public func answers(_ logits: [Float], labels: [String], temperature: Float, count: Int = 5) -> [Answer] {
    guard let most = logits.max() else { return [] }
    let shares = logits.map { exp(($0 - most) / temperature) }
    let sum = shares.reduce(0, +)
    return zip(shares, labels).enumerated()
        .map { Answer(label: $1.1, index: $0, probability: $1.0 / sum) }
        .sorted { ($0.probability, -$0.index) > ($1.probability, -$1.index) }
        .prefix(count).map { $0 }
}
