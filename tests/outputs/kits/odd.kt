// odd PICTURES OUT: what Preprocess.kt makes of each picture by each list of steps.

package edgedistill.kit

import java.io.File
import org.json.JSONArray
import org.json.JSONObject

private fun stepOf(step: JSONObject): Step =
    when (step.getString("step")) {
        "orient" -> Step.Orient
        "composite" -> step.getJSONArray("background").let { Step.Composite(List(3, it::getInt)) }
        "crop" -> Step.CenterSquare
        else -> {
            val filter = Filter.valueOf(step.getString("filter").uppercase())
            Step.Resize(step.getInt("width"), step.getInt("height"), filter)
        }
    }

private fun stepsOf(list: JSONArray): List<Step> = List(list.length()) { stepOf(list.getJSONObject(it)) }

fun main(arguments: Array<String>) {
    val (pictures, out) = arguments.map(::File)
    val index = JSONObject(File(pictures, "index.json").readText())
    val preparations = index.getJSONArray("preparations").let { all -> List(all.length()) { stepsOf(all.getJSONArray(it)) } }
    val listed = index.getJSONArray("pictures")
    for (number in 0 until listed.length()) {
        val (width, height) = listed.getJSONObject(number).let { it.getInt("width") to it.getInt("height") }
        val stored = Pixels(width, height, 4, File(pictures, "$number.rgba").readBytes())
        preparations.forEachIndexed { k, steps -> File(out, "$number-$k.rgb").writeBytes(prepare(stored, steps).data) }
    }
}
