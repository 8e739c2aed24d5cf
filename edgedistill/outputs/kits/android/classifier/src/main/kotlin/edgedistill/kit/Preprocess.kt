// From decoded RGBA to what the model takes: the steps of contract.json, to the byte as Python computes them.

package edgedistill.kit

import kotlin.math.abs
import kotlin.math.max
import kotlin.math.min

/** Pixels in rows, [channels] bytes each: 4 for RGBA that is not premultiplied, 3 for RGB. */
class Pixels(val width: Int, val height: Int, val channels: Int, val data: ByteArray) {
    init {
        require(channels == 3 || channels == 4) { "pixels are RGB or RGBA" }
        require(data.size == width * height * channels) { "pixels of another size" }
    }
}

enum class Filter { BILINEAR, BICUBIC }

/** A step of `preparation` in contract.json. */
sealed interface Step {
    data object Orient : Step

    data class Composite(val background: List<Int>) : Step

    data object CenterSquare : Step

    data class Resize(val width: Int, val height: Int, val filter: Filter) : Step
}

/** All steps but [Step.Orient], which is for whoever decodes the file: upright RGBA or RGB in, RGB of the model's size out. */
fun prepare(pixels: Pixels, steps: List<Step>): Pixels =
    steps.fold(pixels) { found, step ->
        when (step) {
            Step.Orient -> found
            is Step.Composite -> composite(found, step.background)
            Step.CenterSquare -> centerSquare(found)
            is Step.Resize -> resize(found, step.width, step.height, step.filter)
        }
    }

/** (a c + (255 - a) b) / 255 for each channel c with alpha a on a background b, rounded to the nearest. */
fun composite(pixels: Pixels, background: List<Int>): Pixels {
    if (pixels.channels == 3) return pixels
    val rgb = ByteArray(pixels.width * pixels.height * 3)
    for (index in 0 until pixels.width * pixels.height) {
        val alpha = pixels.data[4 * index + 3].toInt() and 255
        for (channel in 0 until 3) {
            val level = pixels.data[4 * index + channel].toInt() and 255
            val sum = alpha * level + (255 - alpha) * background[channel]
            rgb[3 * index + channel] = ((2 * sum + 255) / 510).toByte()
        }
    }
    return Pixels(pixels.width, pixels.height, 3, rgb)
}

/** The largest square in the middle; an odd pixel is lost at the right or at the bottom. */
fun centerSquare(pixels: Pixels): Pixels {
    val side = min(pixels.width, pixels.height)
    val left = (pixels.width - side) / 2
    val top = (pixels.height - side) / 2
    val line = side * pixels.channels
    val cut = ByteArray(side * line)
    for (row in 0 until side) {
        val from = ((top + row) * pixels.width + left) * pixels.channels
        pixels.data.copyInto(cut, row * line, from, from + line)
    }
    return Pixels(side, side, pixels.channels, cut)
}

/** Pillow's resize: first horizontally, then vertically, each pass rounded to bytes. */
fun resize(pixels: Pixels, width: Int, height: Int, filter: Filter): Pixels {
    var data = pixels.data
    val channels = pixels.channels
    if (width != pixels.width) {
        data = alongRows(data, pixels.width, pixels.height, channels, Taps(pixels.width, width, filter))
    }
    if (height != pixels.height) {
        data = alongColumns(data, width * channels, Taps(pixels.height, height, filter))
    }
    return Pixels(width, height, channels, data)
}

private const val BITS = 22

/** For each output position: the first input that counts, and the weights from there, in units of 2^-22. */
private class Taps(from: Int, to: Int, filter: Filter) {
    val first = IntArray(to)
    val weights: List<IntArray>

    init {
        val scale = from.toDouble() / to
        val stretch = max(scale, 1.0)
        val support = (if (filter == Filter.BILINEAR) 1 else 2) * stretch
        weights = List(to) { place ->
            val center = (place + 0.5) * scale
            val low = max((center - support + 0.5).toInt(), 0)
            val high = min((center + support + 0.5).toInt(), from)
            first[place] = low
            val own = DoubleArray(high - low) { kernel((it + low - center + 0.5) * (1 / stretch), filter) }
            val sum = own.sum()
            IntArray(own.size) { (own[it] / sum * (1 shl BITS) + if (own[it] < 0) -0.5 else 0.5).toInt() }
        }
    }
}

private fun kernel(x: Double, filter: Filter): Double {
    val d = abs(x)
    if (filter == Filter.BILINEAR) return if (d < 1) 1 - d else 0.0
    val a = -0.5
    if (d < 1) return ((a + 2) * d - (a + 3)) * d * d + 1
    if (d < 2) return (((d - 5) * d + 8) * d - 4) * a
    return 0.0
}

private fun byte(sum: Int): Byte = ((sum + (1 shl (BITS - 1))) shr BITS).coerceIn(0, 255).toByte()

private fun alongRows(data: ByteArray, width: Int, height: Int, channels: Int, taps: Taps): ByteArray {
    val side = taps.first.size
    val out = ByteArray(side * height * channels)
    for (row in 0 until height) {
        for (place in 0 until side) {
            val own = taps.weights[place]
            val from = (row * width + taps.first[place]) * channels
            for (channel in 0 until channels) {
                var sum = 0
                for (index in own.indices) sum += own[index] * (data[from + index * channels + channel].toInt() and 255)
                out[(row * side + place) * channels + channel] = byte(sum)
            }
        }
    }
    return out
}

private fun alongColumns(data: ByteArray, line: Int, taps: Taps): ByteArray {
    val out = ByteArray(taps.first.size * line)
    for (place in taps.first.indices) {
        val sums = IntArray(line)
        for ((index, weight) in taps.weights[place].withIndex()) {
            val from = (taps.first[place] + index) * line
            for (x in 0 until line) sums[x] += weight * (data[from + x].toInt() and 255)
        }
        for (x in 0 until line) out[place * line + x] = byte(sums[x])
    }
    return out
}

/** Pixels turned upright from the EXIF orientation that their file states, 1 to 8; anything else leaves them as they are. */
fun upright(pixels: Pixels, orientation: Int): Pixels {
    if (orientation !in 2..8) return pixels
    val w = pixels.width
    val h = pixels.height
    val (width, height) = if (orientation >= 5) h to w else w to h
    val data = ByteArray(pixels.data.size)
    for (y in 0 until height) {
        for (x in 0 until width) {
            val (column, row) =
                when (orientation) {
                    2 -> w - 1 - x to y
                    3 -> w - 1 - x to h - 1 - y
                    4 -> x to h - 1 - y
                    5 -> y to x
                    6 -> y to h - 1 - x
                    7 -> w - 1 - y to h - 1 - x
                    else -> w - 1 - y to x
                }
            val from = (row * w + column) * pixels.channels
            pixels.data.copyInto(data, (y * width + x) * pixels.channels, from, from + pixels.channels)
        }
    }
    return Pixels(width, height, pixels.channels, data)
}

/** RGB in rows as the model's tensor: one plane a channel, or as they are with [channelsLast]. */
fun tensorData(pixels: Pixels, channelsLast: Boolean): ByteArray {
    if (channelsLast) return pixels.data
    val plane = pixels.width * pixels.height
    return ByteArray(3 * plane) { pixels.data[it % plane * 3 + it / plane] }
}
