"""Numbers as people read them: no exponents, no share that is rounded to nothing or to all."""


def significant(value: float, digits: int = 3) -> str:
    """So many digits, but of a large number all before the point; for example 0.000001, 1.23, 12042."""
    if abs(value) >= 10**digits - 0.5:
        return f"{value:.0f}"
    text = f"{value:.{digits}g}"
    return f"{value:.12f}".rstrip("0").rstrip(".") if "e" in text else text


def percent(share: float) -> str:
    """Whole per cents, and one digit of what is left near nothing and near all: 0.3%, 42%, 99.7%."""
    rounded = round(100 * share)
    if rounded in (0, 100) and abs(rest := share - rounded / 100) > 1e-6:
        return f"{rounded + float(f'{100 * rest:.1g}'):g}%"
    return f"{rounded}%"
