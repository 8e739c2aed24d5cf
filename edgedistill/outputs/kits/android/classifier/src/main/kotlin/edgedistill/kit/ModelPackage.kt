// The package of the build, as it lies in the assets: read, and refused where a file is not the one that was built.

package edgedistill.kit

import java.security.MessageDigest
import org.json.JSONArray
import org.json.JSONObject

class PackageException(message: String) : Exception(message)

/** contract.json, as far as an app needs it; schemas/contract.schema.json of the package describes it. */
class Contract(
    val task: String,
    val preparation: List<Step>,
    val inputName: String,
    val outputName: String,
    val width: Int,
    val labels: List<String>,
    val golden: String,
    val model: String,
    val shape: LongArray,
    val channelsLast: Boolean,
    /** What logits are divided by for probabilities. */
    val temperature: Float,
    private val noneBelow: Float,
) {
    /**
     * Whether the likeliest of these is not probable enough: then the answer is "none of these". Where the build file does
     * not ask for that answer, this is never so.
     */
    fun isNone(answers: List<Answer>): Boolean = answers.isNotEmpty() && answers[0].probability < noneBelow
}

/** golden/golden.json, for one model file. */
class Golden(val pictures: List<Picture>, val outputs: List<FloatArray>, val tolerance: Float, val top: List<List<Int>>) {
    class Picture(val file: String, val prepared: String)
}

/**
 * The files of a package, which [read] gives by their name. Each is compared with its hash in SHA256SUMS, and that with the
 * hash in this kit. Throws a [PackageException] where a file is missing, or not the one that was built.
 */
class ModelPackage(private val read: (String) -> ByteArray, sums: String = SUMS_SHA256) {
    private val stated: Map<String, String>
    val contract: Contract

    init {
        val bytes = content("SHA256SUMS")
        if (sha256(bytes) != sums) {
            throw PackageException("SHA256SUMS is not that of the package that this kit was made for: make the kit again")
        }
        stated = bytes.decodeToString().lines().filter { it.isNotEmpty() }.associate { it.drop(66) to it.take(64) }
        contract = contractOf(JSONObject(bytes("contract.json").decodeToString()))
    }

    /** The bytes of a file, compared with its hash. */
    fun bytes(name: String): ByteArray {
        val digest = stated[name] ?: throw PackageException("$name is not of the package")
        val bytes = content(name)
        if (sha256(bytes) != digest) throw PackageException("$name is not the file that was built: its hash differs")
        return bytes
    }

    /** The golden pictures, and what the model file of this kit gives for them. */
    fun golden(): Golden {
        val document = JSONObject(bytes(contract.golden).decodeToString())
        val own = document.getJSONObject("files").getJSONObject(contract.model)
        return Golden(
            document.getJSONArray("pictures").objects().map { Golden.Picture(it.getString("file"), it.getString("prepared")) },
            own.getJSONArray("outputs").arrays().map { row -> FloatArray(row.length()) { row.getDouble(it).toFloat() } },
            own.getDouble("tolerance").toFloat(),
            own.getJSONArray("top").arrays().map { it.ints() },
        )
    }

    private fun content(name: String): ByteArray =
        try {
            read(name)
        } catch (error: java.io.IOException) {
            throw PackageException("$name is missing from the package: ${error.message}")
        }
}

private fun contractOf(document: JSONObject): Contract {
    val version = document.getInt("schema_version")
    if (version != 2) throw PackageException("contract.json has version $version: update this kit")
    val model = document.getJSONObject("recommended").optString("android")
    if (model.isEmpty()) throw PackageException("the package has no file for Android: build with the format litert or onnx")
    val file = document.getJSONObject("files").getJSONObject(model)
    val edge = file.getJSONObject("input")
    val labels = document.getJSONArray("labels")
    return Contract(
        task = document.getString("task"),
        preparation = document.getJSONArray("preparation").objects().map(::stepOf),
        inputName = document.getJSONObject("input").getString("name"),
        outputName = document.getJSONObject("output").getString("name"),
        width = document.getJSONObject("output").getInt("width"),
        labels = List(labels.length()) { labels.getString(it) },
        golden = document.getString("golden"),
        model = model,
        shape = edge.getJSONArray("shape").ints().map { it.toLong() }.toLongArray(),
        channelsLast = edge.getString("layout") == "NHWC",
        temperature = if (file.isNull("temperature")) 1f else file.getDouble("temperature").toFloat(),
        noneBelow = if (file.isNull("none_below")) 0f else file.getDouble("none_below").toFloat(),
    )
}

private fun stepOf(step: JSONObject): Step =
    when (val name = step.getString("step")) {
        "orient" -> Step.Orient
        "composite" -> Step.Composite(step.getJSONArray("background").ints())
        "crop" -> Step.CenterSquare
        "resize" -> {
            if (!step.getBoolean("antialias")) throw PackageException("a resize without antialias is not supported")
            Step.Resize(step.getInt("width"), step.getInt("height"), Filter.valueOf(step.getString("filter").uppercase()))
        }
        else -> throw PackageException("unknown step $name: update this kit")
    }

private fun JSONArray.objects(): List<JSONObject> = List(length()) { getJSONObject(it) }

private fun JSONArray.arrays(): List<JSONArray> = List(length()) { getJSONArray(it) }

private fun JSONArray.ints(): List<Int> = List(length()) { getInt(it) }

private fun sha256(bytes: ByteArray): String =
    MessageDigest.getInstance("SHA-256").digest(bytes).joinToString("") { "%02x".format(it) }
