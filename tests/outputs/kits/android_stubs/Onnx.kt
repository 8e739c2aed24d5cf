// STUBS of com.microsoft.onnxruntime:onnxruntime-android

package ai.onnxruntime

enum class OnnxJavaType { UINT8 }

interface OnnxValue : AutoCloseable {
    override fun close()
}

class OnnxTensor : OnnxValue {
    val floatBuffer: java.nio.FloatBuffer get() = TODO()

    override fun close(): Unit = TODO()

    companion object {
        @JvmStatic
        fun createTensor(env: OrtEnvironment, data: java.nio.ByteBuffer, shape: LongArray, type: OnnxJavaType): OnnxTensor =
            TODO()
    }
}

class OrtEnvironment {
    fun createSession(model: ByteArray): OrtSession = TODO()

    companion object {
        @JvmStatic fun getEnvironment(): OrtEnvironment = TODO()
    }
}

class OrtSession : AutoCloseable {
    class Result : AutoCloseable {
        operator fun get(index: Int): OnnxValue = TODO()

        override fun close(): Unit = TODO()
    }

    fun run(inputs: Map<String, OnnxTensor>, requested: Set<String>): Result = TODO()

    override fun close(): Unit = TODO()
}
