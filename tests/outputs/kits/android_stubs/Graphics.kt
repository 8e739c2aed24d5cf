// STUBS

package android.graphics

class ColorSpace {
    enum class Named { SRGB }

    companion object {
        @JvmStatic fun get(named: Named): ColorSpace = TODO()
    }
}

class Bitmap {
    enum class Config { ARGB_8888, HARDWARE }

    val config: Config? get() = TODO()
    val width: Int get() = TODO()
    val height: Int get() = TODO()
    val isMutable: Boolean get() = TODO()

    fun copy(config: Config, isMutable: Boolean): Bitmap = TODO()

    fun setColorSpace(space: ColorSpace): Unit = TODO()

    fun getPixels(pixels: IntArray, offset: Int, stride: Int, x: Int, y: Int, width: Int, height: Int): Unit = TODO()
}

class BitmapFactory {
    class Options {
        @JvmField var inPremultiplied: Boolean = true
        @JvmField var inMutable: Boolean = false
        @JvmField var inPreferredConfig: Bitmap.Config? = null
    }

    companion object {
        @JvmStatic fun decodeByteArray(data: ByteArray, offset: Int, length: Int, options: Options): Bitmap? = TODO()
    }
}
