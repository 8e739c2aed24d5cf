// STUBS

package android.os

class Bundle
