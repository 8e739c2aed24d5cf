// STUBS of Android

@file:Suppress("UNUSED_PARAMETER", "unused")

package android.content

class Intent(action: String) {
    fun setType(type: String): Intent = TODO()

    fun putExtra(name: String, value: String): Intent = TODO()

    companion object {
        const val ACTION_SEND: String = "android.intent.action.SEND"
        const val EXTRA_TEXT: String = "android.intent.extra.TEXT"

        @JvmStatic fun createChooser(target: Intent, title: CharSequence): Intent = TODO()
    }
}
