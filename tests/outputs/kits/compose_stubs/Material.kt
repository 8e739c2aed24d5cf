// STUBS of androidx.compose.material3:material3

@file:Suppress("UNUSED_PARAMETER", "unused")

package androidx.compose.material3

import androidx.compose.runtime.Composable

class TextStyle

class Typography {
    val headlineSmall: TextStyle get() = TODO()
    val titleMedium: TextStyle get() = TODO()
    val bodySmall: TextStyle get() = TODO()
}

object MaterialTheme {
    val typography: Typography get() = TODO()
}

interface RowScope

@Composable fun MaterialTheme(content: @Composable () -> Unit): Unit = TODO()

@Composable fun Button(onClick: () -> Unit, content: @Composable RowScope.() -> Unit): Unit = TODO()

@Composable fun Text(text: String, style: TextStyle = TODO()): Unit = TODO()
