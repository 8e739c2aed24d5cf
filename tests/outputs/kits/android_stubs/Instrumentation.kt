// STUBS

package androidx.test.platform.app

class Instrumentation {
    val targetContext: android.content.Context get() = TODO()
}

object InstrumentationRegistry {
    @JvmStatic fun getInstrumentation(): Instrumentation = TODO()
}
