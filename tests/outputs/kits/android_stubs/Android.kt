// STUBS: signatures of Android and AndroidX that the kit uses, so that it can be compiled without an SDK. Nothing here runs.

@file:Suppress("UNUSED_PARAMETER", "unused")

package android.content

abstract class Context {
    val assets: android.content.res.AssetManager get() = TODO()
    val contentResolver: ContentResolver get() = TODO()

    open fun startActivity(intent: Intent): Unit = TODO()
}

class ContentResolver {
    fun openInputStream(uri: android.net.Uri): java.io.InputStream? = TODO()
}
