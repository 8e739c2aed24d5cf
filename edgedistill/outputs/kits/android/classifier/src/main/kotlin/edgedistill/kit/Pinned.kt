package edgedistill.kit

/** SHA-256 of the SHA256SUMS of the package that this kit was made for. */
const val SUMS_SHA256 = ""
