"""Data sheets: what GPUs could do at best, by the names that their driver tells. Imports no torch."""

from dataclasses import dataclass


@dataclass(frozen=True)
class DataSheet:
    """Dense peaks of a GPU in 10^12 operations a second, without sparsity, sums in float32."""

    names: tuple[str, ...]  # words that its name has, all of them
    half: float  # bfloat16 and float16 on tensor cores
    single: float  # float32 outside of them: torch's own default, which takes no TF32
    source: str


# The first that fits counts, so that a variant stands before its family.
DATA_SHEETS = (
    DataSheet(("B200",), 2250, 75, "NVIDIA HGX B200: 36 PFLOPS of eight, half of that dense"),
    DataSheet(("H200", "NVL"), 835.5, 60, "NVIDIA H200 data sheet, NVL"),
    DataSheet(("H200",), 989.5, 67, "NVIDIA H200 data sheet, SXM"),
    DataSheet(("GH200",), 989.5, 67, "NVIDIA GH200 data sheet"),
    DataSheet(("H100", "PCIe"), 756.5, 51, "NVIDIA H100 data sheet, PCIe"),
    DataSheet(("H100", "NVL"), 835.5, 60, "NVIDIA H100 data sheet, NVL"),
    DataSheet(("H100",), 989.5, 67, "NVIDIA H100 data sheet, SXM"),
    DataSheet(("A100",), 312, 19.5, "NVIDIA A100 data sheet"),
    DataSheet(("A30",), 165, 10.3, "NVIDIA A30 data sheet"),
    DataSheet(("A40",), 149.7, 37.4, "NVIDIA A40 data sheet"),
    DataSheet(("L40S",), 362, 91.6, "NVIDIA L40S data sheet"),
    DataSheet(("L40",), 181, 90.5, "NVIDIA L40 data sheet"),
    DataSheet(("L4",), 121, 30.3, "NVIDIA L4 data sheet, half of what it says with sparsity"),
    DataSheet(("RTX", "4090"), 165.2, 82.6, "NVIDIA Ada architecture, appendix A"),
    DataSheet(("RTX", "3090"), 71, 35.6, "NVIDIA GA102 architecture, table 2"),
    DataSheet(("V100", "PCIE"), 112, 14, "NVIDIA V100 data sheet, PCIe"),
    DataSheet(("V100",), 125, 15.7, "NVIDIA V100 data sheet, SXM2"),
    DataSheet(("T4",), 65, 8.1, "NVIDIA T4 data sheet"),
)


def sheet_of(name: str) -> DataSheet | None:
    """Of a GPU by the name that its driver tells; None for one that is not listed, a part of one (MIG), and a laptop's."""
    words = name.replace("-", " ").split()
    if {"MIG", "Laptop"} & set(words):
        return None
    return next((sheet for sheet in DATA_SHEETS if all(word in words for word in sheet.names)), None)
