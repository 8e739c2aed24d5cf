// STUBS of androidx.compose.runtime:runtime

@file:Suppress("UNUSED_PARAMETER", "unused")

package androidx.compose.runtime

import kotlin.reflect.KProperty
import kotlinx.coroutines.CoroutineScope

@Target(AnnotationTarget.FUNCTION, AnnotationTarget.TYPE) annotation class Composable

interface MutableState<T> {
    var value: T
}

fun <T> mutableStateOf(value: T): MutableState<T> = TODO()

operator fun <T> MutableState<T>.getValue(thisObj: Any?, property: KProperty<*>): T = TODO()

operator fun <T> MutableState<T>.setValue(thisObj: Any?, property: KProperty<*>, value: T): Unit = TODO()

@Composable fun <T> remember(calculation: () -> T): T = TODO()

@Composable fun rememberCoroutineScope(): CoroutineScope = TODO()

@Composable fun LaunchedEffect(key1: Any?, block: suspend CoroutineScope.() -> Unit): Unit = TODO()

class ProvidableCompositionLocal<T> {
    val current: T get() = TODO()
}
