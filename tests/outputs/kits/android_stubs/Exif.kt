// STUBS

package androidx.exifinterface.media

class ExifInterface(stream: java.io.InputStream) {
    fun getAttributeInt(tag: String, defaultValue: Int): Int = TODO()

    companion object {
        const val TAG_ORIENTATION: String = "Orientation"
    }
}
