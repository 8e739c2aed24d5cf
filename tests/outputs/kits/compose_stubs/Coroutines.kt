// STUBS of org.jetbrains.kotlinx:kotlinx-coroutines-core

@file:Suppress("UNUSED_PARAMETER", "unused")

package kotlinx.coroutines

import kotlin.coroutines.CoroutineContext

interface CoroutineScope

abstract class CoroutineDispatcher : CoroutineContext {
    fun limitedParallelism(parallelism: Int): CoroutineDispatcher = TODO()
}

object Dispatchers {
    val Default: CoroutineDispatcher get() = TODO()
}

interface Job

fun CoroutineScope.launch(block: suspend CoroutineScope.() -> Unit): Job = TODO()

suspend fun <T> withContext(context: CoroutineContext, block: suspend CoroutineScope.() -> T): T = TODO()
