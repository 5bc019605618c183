"""Files of other formats, made for tests."""

from __future__ import annotations

import io
from collections.abc import Sequence

import docx
from pypdf import PdfWriter
from pypdf.generic import (
    ArrayObject,
    DecodedStreamObject,
    DictionaryObject,
    NameObject,
    NumberObject,
)

_TO_UNICODE = b"""/CIDInit /ProcSet findresource begin 12 dict begin begincmap
1 begincodespacerange <0000> <FFFF> endcodespacerange
1 beginbfrange <0000> <FFFF> <0000> endbfrange
endcmap end end"""


def pdf(pages: Sequence[Sequence[str]], *, outline: Sequence[tuple[int, str]] = (), password: str = "") -> bytes:
    """Return a PDF with these lines on its pages, in a font whose codes are UTF-16.

    Args:
        pages: lines of each page.
        outline: page and title of each entry.
        password: locks the file; "" leaves it open.
    """
    writer = PdfWriter()
    unicode = DecodedStreamObject()
    unicode.set_data(_TO_UNICODE)
    inner = DictionaryObject(
        {
            NameObject("/Type"): NameObject("/Font"),
            NameObject("/Subtype"): NameObject("/CIDFontType2"),
            NameObject("/BaseFont"): NameObject("/Test"),
            NameObject("/DW"): NumberObject(1000),
        }
    )
    font = DictionaryObject(
        {
            NameObject("/Type"): NameObject("/Font"),
            NameObject("/Subtype"): NameObject("/Type0"),
            NameObject("/BaseFont"): NameObject("/Test"),
            NameObject("/Encoding"): NameObject("/Identity-H"),
            NameObject("/DescendantFonts"): ArrayObject([writer._add_object(inner)]),
            NameObject("/ToUnicode"): writer._add_object(unicode),
        }
    )
    reference = writer._add_object(font)
    for lines in pages:
        page = writer.add_blank_page(width=600, height=800)
        drawn = [
            f"BT /F1 12 Tf 50 {760 - 20 * place} Td <{line.encode('utf-16-be').hex()}> Tj ET"
            for place, line in enumerate(lines)
        ]
        content = DecodedStreamObject()
        content.set_data("\n".join(drawn).encode())
        page[NameObject("/Contents")] = writer._add_object(content)
        fonts = DictionaryObject({NameObject("/F1"): reference})
        page[NameObject("/Resources")] = DictionaryObject({NameObject("/Font"): fonts})
    for number, title in outline:
        writer.add_outline_item(title=title, page_number=number)
    if password:
        writer.encrypt(password, algorithm="RC4-128")
    stream = io.BytesIO()
    writer.write(stream)
    return stream.getvalue()


def handbook() -> bytes:
    """Return a Word document with a title, two chapters, a list and a table with a merged cell."""
    made = docx.Document()
    made.add_heading("员工手册", 0)
    made.add_heading("第一章 考勤", 1)
    made.add_paragraph("公司实行每周五天工作制。")
    made.add_paragraph("病假须附医院证明；", style="List Bullet")
    made.add_paragraph("事假须提前申请。", style="List Bullet")
    made.add_heading("第二章 报销", 1)
    table = made.add_table(rows=2, cols=3)
    table.cell(0, 0).merge(table.cell(0, 1)).text = "项目"
    table.cell(0, 2).text = "上限"
    for place, text in enumerate(("市内", "交通", "一百元")):
        table.cell(1, place).text = text
    made.add_paragraph("由部门负责人签字。")
    stream = io.BytesIO()
    made.save(stream)
    return stream.getvalue()
