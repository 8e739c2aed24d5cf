// STUBS

package androidx.test.ext.junit.runners

class AndroidJUnit4(type: Class<*>) : org.junit.runner.Runner() {
    override fun getDescription(): org.junit.runner.Description = TODO()

    override fun run(notifier: org.junit.runner.notification.RunNotifier): Unit = TODO()
}
