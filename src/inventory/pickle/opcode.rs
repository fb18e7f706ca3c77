//! The opcodes that weights need, of protocols 2 to 5.

macro_rules! opcodes {
    ($( $name:ident $byte:literal )*) => {
        /// An opcode that is read.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(super) enum Opcode { $( $name, )* }

        impl Opcode {
            /// The opcode behind a byte, if it is on the list.
            pub(super) const fn of(byte: u8) -> Option<Self> {
                match byte { $( $byte => Some(Opcode::$name), )* _ => None }
            }
        }
    };
}

opcodes! {
    Mark b'('
    Stop b'.'
    BinInt b'J'
    BinInt1 b'K'
    BinInt2 b'M'
    None b'N'
    BinPersId b'Q'
    Reduce b'R'
    BinFloat b'G'
    BinUnicode b'X'
    Append b'a'
    Build b'b'
    Global b'c'
    EmptyDict b'}'
    Appends b'e'
    BinGet b'h'
    LongBinGet b'j'
    EmptyList b']'
    BinPut b'q'
    LongBinPut b'r'
    SetItem b's'
    Tuple b't'
    EmptyTuple b')'
    SetItems b'u'
    BinBytes b'B'
    ShortBinBytes b'C'
    Proto 0x80
    NewObj 0x81
    Tuple1 0x85
    Tuple2 0x86
    Tuple3 0x87
    NewTrue 0x88
    NewFalse 0x89
    Long1 0x8a
    ShortBinUnicode 0x8c
    BinBytes8 0x8e
    StackGlobal 0x93
    Memoize 0x94
    Frame 0x95
    ByteArray8 0x96
}

/// What Python calls an opcode that is refused, for the finding.
pub(super) const fn refused_name(byte: u8) -> &'static str {
    match byte {
        b'0' => "POP",
        b'1' => "POP_MARK",
        b'2' => "DUP",
        b'F' => "FLOAT",
        b'I' => "INT",
        b'L' => "LONG",
        b'P' => "PERSID",
        b'Q' => "BINPERSID",
        b'S' => "STRING",
        b'T' => "BINSTRING",
        b'U' => "SHORT_BINSTRING",
        b'V' => "UNICODE",
        b'd' => "DICT",
        b'g' => "GET",
        b'i' => "INST",
        b'l' => "LIST",
        b'o' => "OBJ",
        b'p' => "PUT",
        0x82 => "EXT1",
        0x83 => "EXT2",
        0x84 => "EXT4",
        0x8b => "LONG4",
        0x8d => "BINUNICODE8",
        0x8f => "EMPTY_SET",
        0x90 => "ADDITEMS",
        0x91 => "FROZENSET",
        0x92 => "NEWOBJ_EX",
        0x97 => "NEXT_BUFFER",
        0x98 => "READONLY_BUFFER",
        _ => "no opcode",
    }
}
