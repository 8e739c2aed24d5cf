// STUBS of com.google.ai.edge.litert:litert

package org.tensorflow.lite

class Interpreter(model: java.nio.ByteBuffer, options: Options) : AutoCloseable {
    class Options

    fun run(input: Any, output: Any): Unit = TODO()

    override fun close(): Unit = TODO()
}
