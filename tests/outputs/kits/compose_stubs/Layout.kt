// STUBS of androidx.compose.foundation:foundation-layout

@file:Suppress("UNUSED_PARAMETER", "unused")

package androidx.compose.foundation.layout

import androidx.compose.runtime.Composable
import androidx.compose.ui.Modifier
import androidx.compose.ui.unit.Dp

object Arrangement {
    interface Vertical

    fun spacedBy(space: Dp): Vertical = TODO()
}

interface ColumnScope

@Composable
fun Column(modifier: Modifier, verticalArrangement: Arrangement.Vertical, content: @Composable ColumnScope.() -> Unit): Unit =
    TODO()

fun Modifier.padding(all: Dp): Modifier = TODO()
