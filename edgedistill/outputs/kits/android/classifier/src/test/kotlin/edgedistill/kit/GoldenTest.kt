// On the JVM of your machine: the check of the package and its preprocessing. GoldenDeviceTest runs the model on a device.

package edgedistill.kit

import java.io.ByteArrayInputStream
import java.io.File
import javax.imageio.ImageIO
import kotlin.math.abs
import kotlin.math.exp
import org.json.JSONObject
import org.junit.Assert.assertEquals
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Test

private val assets = File(System.getProperty("kit.assets") ?: "src/main/assets", "model")

private fun decoded(file: ByteArray): Pixels {
    val image = ImageIO.read(ByteArrayInputStream(file))
    val colors = image.getRGB(0, 0, image.width, image.height, null, 0, image.width)
    val data = ByteArray(4 * colors.size) { (colors[it / 4] ushr intArrayOf(16, 8, 0, 24)[it % 4]).toByte() }
    return Pixels(image.width, image.height, 4, data)
}

class GoldenTest {
    private val files = ModelPackage({ File(assets, it).readBytes() })

    @Test
    fun eachGoldenPictureIsPreparedAsTheBuildDid() {
        val pictures = files.golden().pictures
        assertTrue(pictures.isNotEmpty())
        for (picture in pictures) {
            val found = prepare(decoded(files.bytes(picture.file)), files.contract.preparation)
            val wanted = prepare(decoded(files.bytes(picture.prepared)), files.contract.preparation)
            assertEquals(wanted.data.size, found.data.size)
            val most = found.data.zip(wanted.data).maxOf { (one, other) -> abs((one.toInt() and 255) - (other.toInt() and 255)) }
            assertTrue("${picture.file} differs by $most", most <= 1)
        }
    }

    @Test
    fun theGoldenOutputsNameTheirClasses() {
        val golden = files.golden()
        for ((outputs, top) in golden.outputs.zip(golden.top)) {
            val contract = files.contract
            assertEquals(top, answers(outputs, contract.labels, contract.temperature, top.size).map { it.index })
        }
    }

    @Test
    fun probabilitiesAreThoseAtTheTemperature() {
        val found = answers(floatArrayOf(2f, 0f), listOf("a", "b"), 2f)
        assertEquals(listOf("a", "b"), found.map { it.label })
        assertEquals(1 / (1 + exp(-1f)), found[0].probability, 1e-6f)
        val file = JSONObject(files.bytes("contract.json").decodeToString()).getJSONObject("files").getJSONObject(files.contract.model)
        val least = if (file.isNull("none_below")) 0f else file.getDouble("none_below").toFloat()
        assertEquals(least > 0, files.contract.isNone(listOf(Answer("a", 0, least - 0.01f))))
        assertTrue(!files.contract.isNone(listOf(Answer("a", 0, least))))
    }

    @Test
    fun latencyIsWrittenWithItsPercentiles() {
        val latency = Latency("m", "d", "s", 3.0, listOf(9.0) + (50 downTo 1).map { it.toDouble() }, 4.0)
        assertEquals(listOf(9.0, 25.0, 48.0), listOf(latency.firstRunMs, latency.p50Ms, latency.p95Ms))
        val written = JSONObject(latency.json())
        assertEquals(13, written.length())
        assertTrue(written.isNull("threads"))
        assertEquals(50, written.getInt("runs"))
    }

    @Test
    fun aFileThatWasChangedIsRefused() {
        for (name in listOf("SHA256SUMS", "contract.json", files.contract.model)) {
            val changed = { asked: String ->
                File(assets, asked).readBytes().also { if (asked == name) it[it.size / 2] = (it[it.size / 2].toInt() xor 1).toByte() }
            }
            assertThrows(PackageException::class.java) { ModelPackage(changed).let { it.bytes(it.contract.model) } }
        }
    }

    @Test
    fun aPictureIsTurnedAsExifSays() {
        // a b
        // c d
        // e f
        val stored = Pixels(2, 3, 3, ByteArray(18) { "abcdef"[it / 3].code.toByte() })
        val expected = listOf("abcdef", "badcfe", "fedcba", "efcdab", "acebdf", "ecafdb", "fdbeca", "bdface")
        for ((index, letters) in expected.withIndex()) {
            val turned = upright(stored, index + 1)
            assertEquals(if (index < 4) 2 else 3, turned.width)
            assertEquals(letters, String(CharArray(6) { turned.data[3 * it].toInt().toChar() }))
        }
    }
}
