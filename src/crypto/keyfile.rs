//! Keys at rest: a small file, sealed under a passphrase (Argon2id) or readable by its owner only.
