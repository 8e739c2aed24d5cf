import Foundation
import XCTest

@testable import Classifier

final class PackageTests: XCTestCase {
    func testTheHashIsThatOfFIPS180() {
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        XCTAssertEqual(sha256([]), empty)
        XCTAssertEqual(sha256(Array("abc".utf8)), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
        let long = "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"
        XCTAssertEqual(sha256([UInt8](repeating: 97, count: 1_000_000)), long)
    }

    func testAFileThatWasChangedIsRefused() throws {
        let package = try ModelPackage.bundled()
        let copy = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)
        defer { try? FileManager.default.removeItem(at: copy) }
        try FileManager.default.copyItem(at: package.folder, to: copy)
        XCTAssertNoThrow(try ModelPackage(folder: copy))
        let inside = package.model + "/Manifest.json"
        for name in ["SHA256SUMS", "contract.json", inside] {
            let file = copy.appendingPathComponent(name)
            let whole = try Data(contentsOf: file)
            var changed = whole
            changed[changed.count / 2] ^= 1
            try changed.write(to: file)
            XCTAssertThrowsError(try ModelPackage(folder: copy), name)
            try whole.write(to: file)
        }
    }

    func testProbabilitiesAreThoseAtTheTemperature() throws {
        let found = answers([2, 0], labels: ["a", "b"], temperature: 2)
        XCTAssertEqual(found.map(\.label), ["a", "b"])
        XCTAssertEqual(found[0].probability, 1 / (1 + exp(-1)), accuracy: 1e-6)
        let package = try ModelPackage.bundled()
        let least = package.contract.files[package.model]?.none_below ?? 0
        XCTAssertEqual(package.isNone([Answer(label: "a", index: 0, probability: least - 0.01)]), least > 0)
        XCTAssertFalse(package.isNone([Answer(label: "a", index: 0, probability: least)]))
    }

    func testLatencyIsWrittenWithItsPercentiles() throws {
        let runs: [Double] = [9.0] + (1...50).reversed().map { Double($0) }
        let latency = Latency(file: "m", device: "d", system: "s", loadMs: 3, runs: runs, pictureToLabelMs: 4)
        XCTAssertEqual([latency.firstRunMs, latency.p50Ms, latency.p95Ms], [9, 25, 48])
        let written = try JSONSerialization.jsonObject(with: Data(try latency.json().utf8)) as? [String: Any]
        XCTAssertEqual(written?.count, 13)
        XCTAssertEqual(written?["threads"] as? NSNull, NSNull())
        XCTAssertEqual(written?["runs"] as? Int, 50)
    }

    func testAPictureIsTurnedAsEXIFSays() {
        // a b
        // c d
        // e f
        let stored = Pixels(width: 2, height: 3, channels: 3, data: Array("abcdef".utf8).flatMap { [$0, $0, $0] })
        let expected = [
            1: "abcdef", 2: "badcfe", 3: "fedcba", 4: "efcdab", 5: "acebdf", 6: "ecafdb", 7: "fdbeca", 8: "bdface",
        ]
        for (orientation, letters) in expected {
            let turned = upright(stored, orientation: orientation)
            XCTAssertEqual(turned.width, orientation < 5 ? 2 : 3)
            let found = stride(from: 0, to: turned.data.count, by: 3).map { turned.data[$0] }
            XCTAssertEqual(String(decoding: found, as: UTF8.self), letters, "\(orientation)")
        }
    }
}
