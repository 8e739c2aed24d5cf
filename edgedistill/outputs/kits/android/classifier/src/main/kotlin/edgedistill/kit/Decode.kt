package edgedistill.kit

import android.graphics.Bitmap
import android.graphics.BitmapFactory
import android.graphics.ColorSpace
import androidx.exifinterface.media.ExifInterface
import java.io.ByteArrayInputStream

/** Upright RGBA of a picture file, not premultiplied. Throws IllegalArgumentException for what the system cannot decode. */
fun decode(file: ByteArray): Pixels {
    val options =
        BitmapFactory.Options().apply {
            inPremultiplied = false
            inMutable = true
            inPreferredConfig = Bitmap.Config.ARGB_8888
        }
    val bitmap =
        requireNotNull(BitmapFactory.decodeByteArray(file, 0, file.size, options)) {
            "this file is no picture that the system can decode"
        }
    val tag = ExifInterface(ByteArrayInputStream(file)).getAttributeInt(ExifInterface.TAG_ORIENTATION, 1)
    return upright(pixels(bitmap), tag)
}

/** RGBA of a bitmap, not premultiplied. Its levels stay as they are, whatever its colour space. */
fun pixels(bitmap: Bitmap): Pixels {
    val software = if (bitmap.config == Bitmap.Config.HARDWARE) bitmap.copy(Bitmap.Config.ARGB_8888, false) else bitmap
    // getPixels converts to sRGB. Named so, levels are not converted: the model was trained on pictures that were not.
    if (software.isMutable) software.setColorSpace(ColorSpace.get(ColorSpace.Named.SRGB))
    val colors = IntArray(software.width * software.height)
    software.getPixels(colors, 0, software.width, 0, 0, software.width, software.height)
    val data = ByteArray(4 * colors.size)
    for ((index, color) in colors.withIndex()) {
        data[4 * index] = (color shr 16).toByte()
        data[4 * index + 1] = (color shr 8).toByte()
        data[4 * index + 2] = color.toByte()
        data[4 * index + 3] = (color ushr 24).toByte()
    }
    return Pixels(software.width, software.height, 4, data)
}
