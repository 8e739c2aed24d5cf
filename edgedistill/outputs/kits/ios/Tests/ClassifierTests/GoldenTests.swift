// Whether this device gives the answers of the machine that built the model.

import Foundation
import XCTest

@testable import Classifier

final class GoldenTests: XCTestCase {
    func testEachGoldenPictureIsPreparedAsTheBuildDid() throws {
        let package = try ModelPackage.bundled()
        let golden = try package.golden()
        XCTAssertFalse(golden.pictures.isEmpty)
        for picture in golden.pictures {
            let found = prepare(try decoded(try package.bytes(picture.file)), package.contract.preparation)
            let wanted = prepare(try decoded(try package.bytes(picture.prepared)), package.contract.preparation)
            XCTAssertEqual(found.data.count, wanted.data.count)
            let most = zip(found.data, wanted.data).map { abs(Int($0) - Int($1)) }.max()!
            XCTAssertLessThanOrEqual(most, 1, picture.file)
        }
    }

    func testTheGoldenOutputsNameTheirClasses() throws {
        let package = try ModelPackage.bundled()
        let expected = try XCTUnwrap(package.golden().files[package.model])
        for (outputs, top) in zip(expected.outputs, expected.top) {
            XCTAssertEqual(answers(outputs, labels: package.contract.labels, temperature: package.temperature, count: top.count).map(\.index), top)
        }
    }

    #if canImport(CoreML) && canImport(ImageIO)
    func testEachGoldenPictureGivesTheGoldenOutputs() async throws {
        let classifier = try await Classifier()
        let package = classifier.package
        let golden = try package.golden()
        let expected = try XCTUnwrap(golden.files[package.model])
        for (picture, outputs) in zip(golden.pictures, expected.outputs) {
            let prepared = prepare(try decoded(try package.bytes(picture.file)), package.contract.preparation)
            let found = try await classifier.run(prepared)
            XCTAssertEqual(found.count, outputs.count)
            let most = zip(found, outputs).map { abs($0 - $1) }.max()!
            XCTAssertLessThanOrEqual(most, expected.tolerance, picture.file)
        }
    }
    #endif
}
