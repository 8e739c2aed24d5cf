// STUBS of androidx.activity

@file:Suppress("UNUSED_PARAMETER", "unused")

package androidx.activity

open class ComponentActivity : android.content.Context() {
    protected open fun onCreate(savedInstanceState: android.os.Bundle?): Unit = TODO()
}
