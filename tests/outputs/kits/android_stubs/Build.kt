// STUBS of Android

@file:Suppress("UNUSED_PARAMETER", "unused")

package android.os

class Build {
    companion object {
        @JvmField val MANUFACTURER: String = ""
        @JvmField val MODEL: String = ""
    }

    class VERSION {
        companion object {
            @JvmField val RELEASE: String = ""
        }
    }
}
