/// SHA-256 of the SHA256SUMS of the package that this kit was made for.
public let sumsSHA256 = ""
