package edgedistill.kit

import android.content.Context
import android.graphics.Bitmap

/** What runs the model file: a runtime's session. */
interface Runner : AutoCloseable {
    /** The outputs for the model's input, uint8 in the layout of the file. */
    fun run(image: ByteArray): FloatArray
}

/** Classifies pictures with the model of the package. It is not thread-safe: use it from one thread at a time. */
class Classifier(val files: ModelPackage) : AutoCloseable {
    constructor(context: Context) : this(ModelPackage({ name -> context.assets.open("model/$name").use { it.readBytes() } }))

    private val runner: Runner

    /** Milliseconds from the bytes of the model file to a session that can run. */
    val loadMs: Double

    init {
        val bytes = files.bytes(files.contract.model)
        val began = System.nanoTime()
        runner = openRunner(bytes, files.contract)
        loadMs = (System.nanoTime() - began) / 1e6
    }

    /** The most probable classes of an upright bitmap, the likeliest first. */
    fun classify(bitmap: Bitmap, count: Int = 5): List<Answer> = classify(pixels(bitmap), count)

    /** The most probable classes of a picture file, which is turned as its EXIF orientation says. */
    fun classify(file: ByteArray, count: Int = 5): List<Answer> = classify(decode(file), count)

    fun classify(pixels: Pixels, count: Int = 5): List<Answer> {
        val contract = files.contract
        return answers(run(prepare(pixels, contract.preparation)), contract.labels, contract.temperature, count)
    }

    /** The most probable classes of each bitmap, in their order. */
    fun classify(bitmaps: List<Bitmap>, count: Int = 5): List<List<Answer>> = bitmaps.map { classify(it, count) }

    /** What the model takes on this device. [device] and [system] are for those to whom it is sent. */
    fun latency(device: String, system: String): Latency {
        val picture = Pixels(640, 480, 3, ByteArray(640 * 480 * 3) { 128.toByte() })
        val prepared = prepare(picture, files.contract.preparation)
        val runs = List(Latency.COUNT + 1) { timed { run(prepared) } }
        return Latency(files.contract.model, device, system, loadMs, runs, timed { classify(picture) })
    }

    /** The model's outputs for prepared pixels: logits, or a vector of length 1. */
    fun run(prepared: Pixels): FloatArray = runner.run(tensorData(prepared, files.contract.channelsLast))

    override fun close() = runner.close()
}
