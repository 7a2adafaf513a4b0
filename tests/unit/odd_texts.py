"""Texts that no small model may stumble over."""

ODD = {
    "empty": "",
    "blank": " \t\r\n",
    "64 KiB of words": "word " * 13108,
    "64 KiB without a space": "x" * 65536,
    "emoji": "🎉🐟🏳️‍🌈",
    "Japanese": "姉はオスロに住んでいます",
    "Arabic": "أختي تعيش في أوسلو",
    "Amharic": "እህቴ በኦስሎ ትኖራለች",
    "control characters": "".join(map(chr, range(32))) + "\x7f\x85",
    "lone surrogate": "\ud83d and \udc00",
    "not characters": "\ufffe\uffff\U0010ffff",
    "combining marks": "a" + "\u0301" * 500,
}
