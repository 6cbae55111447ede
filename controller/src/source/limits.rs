//! Bounds on what is read from a folder. They protect the controller from a stray dump, not users from themselves.

/// One file. 4 MiB hold ten thousand routes; anything larger is not a manifest.
pub const FILE_BYTES: u64 = 4 << 20;
/// Files in the folder.
pub const FILES: usize = 10_000;
/// All files together.
pub const FOLDER_BYTES: u64 = 256 << 20;
/// Documents in one file.
pub const DOCUMENTS_PER_FILE: usize = 10_000;
/// Nesting of one document. Our deepest field is 10 down.
pub const YAML_DEPTH: usize = 64;
/// Values in one file.
pub const YAML_NODES_PER_FILE: usize = 1_000_000;
/// Values that aliases in one file stand for.
pub const YAML_ALIASED_VALUES_PER_FILE: usize = 50_000;
/// Aliases, and merge keys, in one file.
pub const YAML_ALIASES_PER_FILE: usize = 10_000;
/// Problems told of one document; the rest would be echoes.
pub const PROBLEMS_PER_DOCUMENT: usize = 20;
/// How long the folder must be quiet before it is read: editors write in several steps.
pub const QUIET_MILLIS: u64 = 100;
/// How long it is waited for quiet at most. A folder that is never quiet is read anyway, file by file checked.
pub const QUIET_WAIT_MILLIS: u64 = 2_000;
/// Without any event the folder is looked at this often: network file systems and symlink targets send none.
pub const RESCAN_MILLIS: u64 = 2_000;
