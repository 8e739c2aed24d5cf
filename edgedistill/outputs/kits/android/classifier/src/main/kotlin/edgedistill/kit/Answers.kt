package edgedistill.kit

import kotlin.math.exp

/** A class with its probability; [index] is its place in the labels of the contract. */
data class Answer(val label: String, val index: Int, val probability: Float)

/** The [count] most probable classes of logits, the likeliest first. [temperature] is the file's in the contract. */
fun answers(logits: FloatArray, labels: List<String>, temperature: Float, count: Int = 5): List<Answer> {
    val most = logits.max()
    val shares = logits.map { exp((it - most) / temperature) }
    val sum = shares.sum()
    return shares
        .mapIndexed { index, share -> Answer(labels[index], index, share / sum) }
        .sortedWith(compareByDescending<Answer> { it.probability }.thenBy { it.index })
        .take(count)
}
