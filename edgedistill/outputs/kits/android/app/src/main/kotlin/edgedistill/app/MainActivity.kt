package edgedistill.app

import android.content.Intent
import android.os.Build
import android.os.Bundle
import androidx.activity.ComponentActivity
import androidx.activity.compose.rememberLauncherForActivityResult
import androidx.activity.compose.setContent
import androidx.activity.result.PickVisualMediaRequest
import androidx.activity.result.contract.ActivityResultContracts
import androidx.compose.foundation.layout.Arrangement
import androidx.compose.foundation.layout.Column
import androidx.compose.foundation.layout.padding
import androidx.compose.material3.Button
import androidx.compose.material3.MaterialTheme
import androidx.compose.material3.Text
import androidx.compose.runtime.Composable
import androidx.compose.runtime.LaunchedEffect
import androidx.compose.runtime.getValue
import androidx.compose.runtime.mutableStateOf
import androidx.compose.runtime.remember
import androidx.compose.runtime.rememberCoroutineScope
import androidx.compose.runtime.setValue
import androidx.compose.ui.Modifier
import androidx.compose.ui.platform.LocalContext
import androidx.compose.ui.unit.dp
import edgedistill.kit.Answer
import edgedistill.kit.Classifier
import edgedistill.kit.Latency
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.launch
import kotlinx.coroutines.withContext

class MainActivity : ComponentActivity() {
    override fun onCreate(savedInstanceState: Bundle?) {
        super.onCreate(savedInstanceState)
        setContent { MaterialTheme { Screen() } }
    }
}

// The classifier is not thread-safe: one thread has it.
private val worker = Dispatchers.Default.limitedParallelism(1)

/** Classifies a photo that the user picks: the five likeliest classes, and what it took. */
@Composable
fun Screen() {
    val context = LocalContext.current
    val scope = rememberCoroutineScope()
    var classifier by remember { mutableStateOf<Classifier?>(null) }
    var answers by remember { mutableStateOf(emptyList<Answer>()) }
    var status by remember { mutableStateOf("Loading the model …") }
    var latency by remember { mutableStateOf<Latency?>(null) }
    LaunchedEffect(Unit) {
        runCatching {
                val loaded = withContext(worker) { Classifier(context) }
                classifier = loaded
                status = "ready; the model loaded in %.0f ms".format(loaded.loadMs)
                val device = "${Build.MANUFACTURER} ${Build.MODEL}"
                latency = withContext(worker) { loaded.latency(device, "Android ${Build.VERSION.RELEASE}") }
            }
            .onFailure { status = it.message ?: "$it" }
    }
    val picker =
        rememberLauncherForActivityResult(ActivityResultContracts.PickVisualMedia()) { uri ->
            val loaded = classifier
            if (uri != null && loaded != null) {
                scope.launch {
                    runCatching {
                            withContext(worker) {
                                val file = context.contentResolver.openInputStream(uri)!!.use { it.readBytes() }
                                val began = System.nanoTime()
                                loaded.classify(file) to (System.nanoTime() - began) / 1e6
                            }
                        }
                        .onSuccess { (found, ms) ->
                            answers = found
                            status = "from the file to the labels in %.1f ms".format(ms)
                        }
                        .onFailure { status = it.message ?: "$it" }
                }
            }
        }
    Column(Modifier.padding(24.dp), Arrangement.spacedBy(12.dp)) {
        Text("Classify a photo", style = MaterialTheme.typography.headlineSmall)
        Button({ picker.launch(PickVisualMediaRequest(ActivityResultContracts.PickVisualMedia.ImageOnly)) }) {
            Text("Choose a photo")
        }
        if (classifier?.files?.contract?.isNone(answers) == true) Text("None of these: no class is probable enough.")
        for (answer in answers) Text("%s   %.1f %%".format(answer.label, 100 * answer.probability))
        Text(status, style = MaterialTheme.typography.bodySmall)
        latency?.let { found ->
            Text("Latency on this device", style = MaterialTheme.typography.titleMedium)
            for ((name, ms) in
                listOf(
                    "load" to found.loadMs,
                    "first run" to found.firstRunMs,
                    "run, p50" to found.p50Ms,
                    "run, p95" to found.p95Ms,
                    "picture to label" to found.pictureToLabelMs,
                )) Text("%s   %.2f ms".format(name, ms), style = MaterialTheme.typography.bodySmall)
            Button({ context.startActivity(Intent.createChooser(sent(found.json()), "Send as JSON")) }) { Text("Send as JSON") }
        }
    }
}

private fun sent(text: String): Intent = Intent(Intent.ACTION_SEND).setType("application/json").putExtra(Intent.EXTRA_TEXT, text)
