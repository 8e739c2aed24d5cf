package edgedistill.kit

import kotlin.math.ceil
import org.json.JSONObject

/**
 * What the model takes on a device: of [runs] in their order the first apart, and the percentiles of the others. In ms.
 * [json] is the form to send back; schemas/kit_latency.schema.json of the package describes it.
 */
class Latency(
    private val file: String,
    private val device: String,
    private val system: String,
    val loadMs: Double,
    private val runs: List<Double>,
    val pictureToLabelMs: Double,
) {
    private val sorted = runs.drop(1).sorted()
    val firstRunMs: Double = runs[0]
    val p50Ms: Double = at(0.5)
    val p95Ms: Double = at(0.95)

    private fun at(share: Double): Double = sorted[ceil(share * sorted.size).toInt() - 1]

    fun json(): String =
        JSONObject()
            .put("schema_version", 1)
            .put("platform", "android")
            .put("file", file)
            .put("sha256_sums", SUMS_SHA256)
            .put("device", device)
            .put("system", system)
            .put("threads", JSONObject.NULL)
            .put("load_ms", loadMs)
            .put("first_run_ms", firstRunMs)
            .put("run_p50_ms", p50Ms)
            .put("run_p95_ms", p95Ms)
            .put("picture_to_label_ms", pictureToLabelMs)
            .put("runs", sorted.size)
            .toString(2)

    companion object {
        /** So many runs after the first. */
        const val COUNT: Int = 50
    }
}

internal fun timed(run: () -> Unit): Double {
    val began = System.nanoTime()
    run()
    return (System.nanoTime() - began) / 1e6
}
