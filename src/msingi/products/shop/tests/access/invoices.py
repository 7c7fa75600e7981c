"""Who may see papers of orders that are not there, and what opens without anybody's right: only what its mark opens."""

TABLE = """
    GET  /orders/none/invoice                         404  404  404
    GET  /orders/none/invoice.pdf                     404  404  404
    GET  /orders/none/credit-notes                    404  404  404
    GET  /orders/none/credit-notes/C2026-000001.pdf   404  404  404
    GET  /invoices/2026-000001?check=none             404  404  404
    GET  //shop/invoices/2026-000001?check=none       404  404  404
    GET  //shop/papers/2026-000001.pdf?key=none       404  404  404
"""
BODY: dict[str, object] = {}
