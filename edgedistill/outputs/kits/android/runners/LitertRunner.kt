package edgedistill.kit

import java.nio.ByteBuffer
import java.nio.ByteOrder
import org.tensorflow.lite.Interpreter

internal fun openRunner(model: ByteArray, contract: Contract): Runner = LitertRunner(model, contract)

/** LiteRT on the CPU. */
private class LitertRunner(model: ByteArray, private val contract: Contract) : Runner {
    private val interpreter = Interpreter(direct(model.size).put(model).apply { rewind() }, Interpreter.Options())
    private val input = direct(contract.shape.reduce(Long::times).toInt())
    private val output = direct(4 * contract.width)

    override fun run(image: ByteArray): FloatArray {
        input.rewind()
        input.put(image).rewind()
        output.rewind()
        interpreter.run(input, output)
        output.rewind()
        return FloatArray(contract.width).also(output.asFloatBuffer()::get)
    }

    override fun close() = interpreter.close()
}

private fun direct(bytes: Int): ByteBuffer = ByteBuffer.allocateDirect(bytes).order(ByteOrder.nativeOrder())
