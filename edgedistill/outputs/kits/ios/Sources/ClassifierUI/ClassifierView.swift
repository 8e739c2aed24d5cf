#if canImport(SwiftUI) && canImport(PhotosUI) && canImport(CoreML)
import Classifier
import PhotosUI
import SwiftUI

/// A screen that classifies a photo from the library or the camera: the five likeliest classes, and what it took.
public struct ClassifierView: View {
    @State private var classifier: Classifier?
    @State private var picked: PhotosPickerItem?
    @State private var shown: Image?
    @State private var answers: [Answer] = []
    @State private var none = false
    @State private var latency: Latency?
    @State private var status = "Loading the model …"
    #if os(iOS)
    @State private var photographing = false
    #endif

    public init() {}

    public var body: some View {
        NavigationStack {
            List {
                Section {
                    shown?.resizable().scaledToFit().frame(maxHeight: 280)
                    PhotosPicker("Choose a photo", selection: $picked, matching: .images)
                    #if os(iOS)
                    if UIImagePickerController.isSourceTypeAvailable(.camera) {
                        Button("Take a photo") { photographing = true }
                    }
                    #endif
                }
                Section {
                    if none { Text("None of these: no class is probable enough.") }
                    ForEach(answers) { answer in
                        LabeledContent(answer.label, value: answer.probability, format: .percent.precision(.fractionLength(1)))
                    }
                } footer: {
                    Text(status)
                }
                if let latency, let written = try? latency.json() {
                    Section("Latency on this device") {
                        LabeledContent("load", value: shown(latency.loadMs))
                        LabeledContent("first run", value: shown(latency.firstRunMs))
                        LabeledContent("run, p50", value: shown(latency.p50Ms))
                        LabeledContent("run, p95", value: shown(latency.p95Ms))
                        LabeledContent("picture to label", value: shown(latency.pictureToLabelMs))
                        ShareLink("Send as JSON", item: written)
                    }
                }
            }
            .navigationTitle("Classify a photo")
        }
        .task { await load() }
        .onChange(of: picked) { Task { await take(try? await picked?.loadTransferable(type: Data.self)) } }
        #if os(iOS)
        .sheet(isPresented: $photographing) { Camera { data in Task { await take(data) } } }
        #endif
    }

    private func load() async {
        do {
            let made = try await Classifier()
            status = String(format: "ready; the model loaded in %.0f ms", made.loadMs)
            classifier = made
            latency = try await made.latency(device: deviceName(), system: ProcessInfo.processInfo.operatingSystemVersionString)
        } catch {
            status = "\(error)"
        }
    }

    private func shown(_ ms: Double) -> String { String(format: "%.2f ms", ms) }

    /// The model of the device as Apple names it, such as `iPhone16,1`.
    private func deviceName() -> String {
        var system = utsname()
        uname(&system)
        return withUnsafeBytes(of: &system.machine) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
    }

    private func take(_ file: Data?) async {
        guard let file, let classifier else { return }
        do {
            let began = ContinuousClock.now
            answers = try await classifier.classify(file)
            none = classifier.package.isNone(answers)
            let took = (ContinuousClock.now - began) / .milliseconds(1)
            status = String(format: "from the file to the labels in %.1f ms", took)
            #if os(iOS)
            shown = UIImage(data: file).map(Image.init(uiImage:))
            #elseif os(macOS)
            shown = NSImage(data: file).map(Image.init(nsImage:))
            #endif
        } catch {
            status = "\(error)"
        }
    }
}

#if os(iOS)
/// The system's camera, which gives a JPEG with its orientation.
private struct Camera: UIViewControllerRepresentable {
    let taken: (Data?) -> Void
    @Environment(\.dismiss) private var dismiss

    func makeUIViewController(context: Context) -> UIImagePickerController {
        let picker = UIImagePickerController()
        picker.sourceType = .camera
        picker.delegate = context.coordinator
        return picker
    }

    func updateUIViewController(_: UIImagePickerController, context _: Context) {}

    func makeCoordinator() -> Coordinator { Coordinator(self) }

    final class Coordinator: NSObject, UIImagePickerControllerDelegate, UINavigationControllerDelegate {
        private let camera: Camera

        init(_ camera: Camera) { self.camera = camera }

        func imagePickerController(
            _: UIImagePickerController, didFinishPickingMediaWithInfo info: [UIImagePickerController.InfoKey: Any]
        ) {
            camera.taken((info[.originalImage] as? UIImage)?.jpegData(compressionQuality: 0.95))
            camera.dismiss()
        }

        func imagePickerControllerDidCancel(_: UIImagePickerController) { camera.dismiss() }
    }
}
#endif
#endif
