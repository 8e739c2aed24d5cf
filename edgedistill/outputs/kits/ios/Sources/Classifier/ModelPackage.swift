// The package of the build, as it lies in `model`: read, and refused where a file is not the one that was built.

import Foundation

public struct PackageError: Error, CustomStringConvertible {
    public let description: String
}

/// contract.json; schemas/contract.schema.json of the package describes it.
public struct Contract: Decodable {
    public struct Input: Decodable {
        public let name: String
        public let width: Int
        public let height: Int
    }

    public struct Output: Decodable {
        public let name: String
        public let width: Int
    }

    public struct File: Decodable {
        public let temperature: Float?
        public let none_below: Float?
    }

    public let schema_version: Int
    public let task: String
    public let preparation: [Step]
    public let input: Input
    public let output: Output
    public let labels: [String]
    public let files: [String: File]
    public let recommended: [String: String]
    public let golden: String
}

/// golden/golden.json; schemas/golden.schema.json of the package describes it.
public struct Golden: Decodable {
    public struct Picture: Decodable {
        public let file: String
        public let prepared: String
        public let width: Int
        public let height: Int
    }

    public struct Outputs: Decodable {
        public let tolerance: Float
        public let outputs: [[Float]]
        public let top: [[Int]]
    }

    public let pictures: [Picture]
    public let files: [String: Outputs]
}

/// The files of a package. Each is compared with its hash in SHA256SUMS, and that with the hash in this kit.
public struct ModelPackage {
    public let folder: URL
    public let contract: Contract
    /// The model file for this platform, a folder inside `folder`.
    public let model: String
    private let sums: [String: String]

    /// Throws where a file is missing, or not the one that was built, and where the package has no file for iOS.
    public init(folder: URL, sums expected: String = sumsSHA256) throws {
        let bytes = try read(folder.appendingPathComponent("SHA256SUMS"))
        guard sha256(bytes) == expected else {
            throw PackageError(
                description: "SHA256SUMS is not that of the package that this kit was made for: make the kit again")
        }
        var sums: [String: String] = [:]
        for line in String(decoding: bytes, as: UTF8.self).split(separator: "\n") {
            sums[String(line.dropFirst(66))] = String(line.prefix(64))
        }
        self.folder = folder
        self.sums = sums
        let found = try checked(folder, "contract.json", sums)
        contract = try JSONDecoder().decode(Contract.self, from: Data(found))
        guard contract.schema_version == 2 else {
            throw PackageError(description: "contract.json has version \(contract.schema_version): update this kit")
        }
        guard let model = contract.recommended["ios"] else {
            throw PackageError(description: "the package has no file for iOS: build with the format coreml")
        }
        self.model = model
        for name in sums.keys where name == model || name.hasPrefix(model + "/") { _ = try checked(folder, name, sums) }
    }

    /// What logits are divided by for probabilities.
    public var temperature: Float { contract.files[model]?.temperature ?? 1 }

    /// Whether the likeliest of these is not probable enough: then the answer is "none of these". Where the build file does
    /// not ask for that answer, this is never so.
    public func isNone(_ answers: [Answer]) -> Bool {
        guard let best = answers.first, let least = contract.files[model]?.none_below else { return false }
        return best.probability < least
    }

    /// The package that this kit ships.
    public static func bundled() throws -> ModelPackage {
        guard let folder = Bundle.module.url(forResource: "model", withExtension: nil) else {
            throw PackageError(description: "the bundle has no folder `model`")
        }
        return try ModelPackage(folder: folder)
    }

    /// The bytes of a file, compared with its hash.
    public func bytes(_ name: String) throws -> [UInt8] {
        try checked(folder, name, sums)
    }

    public func golden() throws -> Golden {
        try JSONDecoder().decode(Golden.self, from: Data(try bytes(contract.golden)))
    }
}

private func read(_ url: URL) throws -> [UInt8] {
    guard let data = try? Data(contentsOf: url) else {
        throw PackageError(description: "\(url.lastPathComponent) is missing from the package")
    }
    return [UInt8](data)
}

private func checked(_ folder: URL, _ name: String, _ sums: [String: String]) throws -> [UInt8] {
    guard let stated = sums[name] else { throw PackageError(description: "\(name) is not of the package") }
    let bytes = try read(folder.appendingPathComponent(name))
    guard sha256(bytes) == stated else {
        throw PackageError(description: "\(name) is not the file that was built: its hash differs")
    }
    return bytes
}
