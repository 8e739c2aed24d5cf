package edgedistill.kit

import ai.onnxruntime.OnnxJavaType
import ai.onnxruntime.OnnxTensor
import ai.onnxruntime.OrtEnvironment
import ai.onnxruntime.OrtSession
import java.nio.ByteBuffer

internal fun openRunner(model: ByteArray, contract: Contract): Runner = OnnxRunner(model, contract)

/** ONNX Runtime on the CPU. */
private class OnnxRunner(model: ByteArray, private val contract: Contract) : Runner {
    private val environment = OrtEnvironment.getEnvironment()
    private val session: OrtSession = environment.createSession(model)

    override fun run(image: ByteArray): FloatArray {
        val buffer = ByteBuffer.allocateDirect(image.size).put(image).apply { rewind() }
        return OnnxTensor.createTensor(environment, buffer, contract.shape, OnnxJavaType.UINT8).use { tensor ->
            session.run(mapOf(contract.inputName to tensor), setOf(contract.outputName)).use { outputs ->
                val found = (outputs[0] as OnnxTensor).floatBuffer
                FloatArray(found.remaining()).also(found::get)
            }
        }
    }

    override fun close() = session.close()
}
