// STUBS

package android.content.res

class AssetManager {
    fun open(name: String): java.io.InputStream = TODO()
}
