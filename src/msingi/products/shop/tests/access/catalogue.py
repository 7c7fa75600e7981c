"""Who may do what with goods, categories and synonyms."""

from typing import Any

TABLE = """
    GET    /products                              200     200  200
    GET    /products/facets                       200     200  200
    GET    /products/tea                          200     200  200
    GET    /products/secret                       404     404  404
    GET    /products/by-slug/tea                  200     200  200
    GET    /products/by-slug/secret               404     404  404
    GET    /categories                            200     200  200
    GET    /categories/drinks                     200     200  200
    GET    /catalogue/products                    401     403  200
    GET    /catalogue/products/secret             401     403  200
    POST   /products                              401     403  201
    PATCH  /products/tea                          401     403  200
    DELETE /products/tea                          401     403  409
    DELETE /products/secret                       401     403  204
    PUT    /products/secret/publication           401     403  200
    DELETE /products/tea/publication              401     403  200
    PUT    /products/tea/archive                  401     403  200
    DELETE /products/tea/archive                  401     403  200
    POST   /products/secret/variants              401     403  201
    PATCH  /products/tea/variants/tea-250         401     403  200
    DELETE /products/kikoi/variants/kikoi-blue    401     403  200
    POST   /categories                            401     403  201
    PATCH  /categories/drinks                     401     403  200
    DELETE /categories/drinks                     401     403  409
    GET    /synonyms                              401     403  200
    POST   /synonyms                              401     403  201
    PUT    /synonyms/tea                          401     403  200
    DELETE /synonyms/tea                          401     403  204
    POST   /catalogue/imports                     401     403  415
    GET    /catalogue/export                      401     403  200
"""
BODY: dict[str, Any] = {
    "POST /products": {"title": {"en": "Cassava crisps", "sw": "Krisps za muhogo"}},
    "PATCH /products/tea": {"brand": "Ketepa"},
    "POST /products/secret/variants": {"sku": "SECRET-2", "prices": {"KES": 100}},
    "PATCH /products/tea/variants/tea-250": {"prices": {"KES": 12500}},
    "POST /categories": {"name": {"en": "Books", "sw": "Vitabu"}},
    "PATCH /categories/drinks": {"position": 3},
    "POST /synonyms": {"words": ["stove", "jiko"]},
    "PUT /synonyms/tea": {"words": ["tea", "chai", "majani"]},
    "POST /catalogue/imports": {},
}
