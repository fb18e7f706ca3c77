//! `[loader]` and `LOADER_RULES`.

use super::*;

pub(super) const READ: &[Word] = &[
    word("auto", "Buffered or direct, per file, by what the page cache holds."),
    word("mmap", "Mapped; a file truncated while mapped kills the process."),
    word("pread", "Buffered positioned reads."),
    word("direct", "Direct reads around the page cache."),
];
pub(super) const STAGE: &[Word] =
    &[word("none", "Read straight to the destination."), word("shm", "Through shared memory.")];
pub(super) const VERIFY: &[Word] = &[
    word("none", "Not verified."),
    word("xxh3", "Against the manifest, for accidents."),
    word("blake3", "Against the manifest, for adversaries too."),
];

pub(crate) static LOADER_RULE: Shape = Shape {
    title: "LOADER_RULES",
    doc: "A loader rule: a pattern and how what it matches is read.",
    fields: rule_fields![
        field("read", Words(READ), Default("(that of `[loader]`)"), "How bytes are read."),
        field("stage", Words(STAGE), Default("(that of `[loader]`)"), "Where bytes pass through."),
        field("verify", Words(VERIFY), Default("(that of `[loader]`)"), "How bytes are verified."),
    ],
};

pub(crate) static LOADER: Shape = Shape {
    title: "loader",
    doc: "Loader defaults, and the names that a checkpoint's tensors get.",
    fields: &[
        field("read", Words(READ), Default("\"auto\""), "How bytes are read where no rule says otherwise."),
        field("stage", Words(STAGE), Default("\"none\""), "Where bytes pass through where no rule says otherwise."),
        field("verify", Words(VERIFY), Default("\"none\""), "How bytes are verified where no rule says otherwise."),
        field(
            "threads",
            Integer { min: 0, max: 1024 },
            Default("0"),
            "Threads that read, as far as the budget has a chunk for each; `0` is one for each core, and four at least.",
        ),
        field(
            "chunk",
            String("size"),
            Default("\"2MiB\""),
            "Most bytes that a thread reads at a time, 64 KiB to 1 GiB.",
        ),
        field(
            "queue_depth",
            Integer { min: 1, max: 4096 },
            Default("32"),
            "Reads that a thread has in flight at once (io_uring) where small pieces are read past the page cache; `1` reads one after the other.",
        ),
        field(
            "gap",
            String("size"),
            Default("\"64KiB\""),
            "Unwanted bytes between two pieces that are read along, so that one request serves both.",
        ),
        field(
            "cached_gap",
            String("size"),
            Default("\"4KiB\""),
            "The same for files that are in the page cache, where a request costs little.",
        ),
        field(
            "budget",
            String("size"),
            Default("\"32MiB\""),
            "Most bytes of memory besides the tensors themselves; fewer threads or smaller chunks where they would need more.",
        ),
        field(
            "stage_budget",
            String("size"),
            Default("(what is free)"),
            "Most bytes of copies in shared memory for `stage = \"shm\"`; what does not fit is read from the files themselves.",
        ),
        field(
            "rename",
            List(&Table(&RENAME)),
            Default("[]"),
            "New names for weights, before any table sees them; the first that matches applies.",
        ),
        field(
            "exclude",
            List(&Either(&[String("glob"), Table(&PATTERN)])),
            Default("[]"),
            "Stored tensors that are left out.",
        ),
    ],
};

pub(crate) static RENAME: Shape = Shape {
    title: "rename",
    doc: "A new name for weights whose whole path a regex matches.",
    fields: &[
        field("regex", String("regex"), Required, "Over the whole path, anchored at both ends."),
        field(
            "to",
            String("template"),
            Required,
            "The new path; `$1` or `${name}` is a group of the regex, `$$` a dollar.",
        ),
    ],
};
