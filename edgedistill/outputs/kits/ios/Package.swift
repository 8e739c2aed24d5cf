// swift-tools-version:5.9

import PackageDescription

var targets: [Target] = [
    // The package of the build is copied as it is: its hashes stay checkable. Core ML compiles the model at the first launch.
    .target(name: "Classifier", resources: [.copy("model")]),
    .target(name: "ClassifierUI", dependencies: ["Classifier"]),
]

#if os(Linux)
// Linux has no decoder of pictures in its libraries. The tests read the golden pictures by libpng there.
targets += [
    .systemLibrary(name: "CPNG", pkgConfig: "libpng", providers: [.apt(["libpng-dev"])]),
    .testTarget(name: "ClassifierTests", dependencies: ["Classifier", "CPNG"]),
]
#else
targets.append(.testTarget(name: "ClassifierTests", dependencies: ["Classifier"]))
#endif

let package = Package(
    name: "Classifier",
    platforms: [.iOS(.v17), .macOS(.v14)],
    products: [
        .library(name: "Classifier", targets: ["Classifier"]),
        .library(name: "ClassifierUI", targets: ["ClassifierUI"]),
    ],
    targets: targets
)
