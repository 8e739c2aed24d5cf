// STUBS

package android.net

class Uri
