// On a device: whether it gives the answers of the machine that built the model.

package edgedistill.kit

import androidx.test.ext.junit.runners.AndroidJUnit4
import androidx.test.platform.app.InstrumentationRegistry
import kotlin.math.abs
import org.junit.Assert.assertEquals
import org.junit.Assert.assertTrue
import org.junit.Test
import org.junit.runner.RunWith

@RunWith(AndroidJUnit4::class)
class GoldenDeviceTest {
    @Test
    fun eachGoldenPictureGivesTheGoldenOutputs() {
        Classifier(InstrumentationRegistry.getInstrumentation().targetContext).use { classifier ->
            val files = classifier.files
            val golden = files.golden()
            for ((picture, outputs) in golden.pictures.zip(golden.outputs)) {
                val found = prepare(decode(files.bytes(picture.file)), files.contract.preparation)
                val wanted = prepare(decode(files.bytes(picture.prepared)), files.contract.preparation)
                val most = found.data.indices.maxOf { abs((found.data[it].toInt() and 255) - (wanted.data[it].toInt() and 255)) }
                assertTrue("${picture.file} is prepared otherwise: a channel differs by $most", most <= 1)
                val given = classifier.run(found)
                assertEquals(outputs.size, given.size)
                val far = outputs.indices.maxOf { abs(outputs[it] - given[it]) }
                assertTrue("${picture.file} gives other outputs: one differs by $far", far <= golden.tolerance)
            }
        }
    }
}
