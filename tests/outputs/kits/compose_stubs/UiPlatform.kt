// STUBS of androidx.compose.ui:ui

@file:Suppress("UNUSED_PARAMETER", "unused")

package androidx.compose.ui.platform

val LocalContext: androidx.compose.runtime.ProvidableCompositionLocal<android.content.Context> get() = TODO()
