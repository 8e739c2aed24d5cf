// STUBS of androidx.activity

@file:Suppress("UNUSED_PARAMETER", "unused")

package androidx.activity.result.contract

abstract class ActivityResultContract<I, O>

class ActivityResultContracts {
    class PickVisualMedia : ActivityResultContract<androidx.activity.result.PickVisualMediaRequest, android.net.Uri?>() {
        sealed interface VisualMediaType

        object ImageOnly : VisualMediaType
    }
}
