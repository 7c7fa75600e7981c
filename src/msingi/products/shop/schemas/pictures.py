"""Pictures as they are sent out."""

from msingi.kit.db import View
from msingi.kit.files import url_of
from msingi.products.shop.models.pictures import KeptPicture


class PictureView(View):
    """`file` is what a product's `pictures` name it by; `sizes` are addresses by width in pixels, for a `srcset`."""

    id: str
    file: str
    width: int
    height: int
    url: str
    jpeg_url: str
    sizes: dict[str, str]

    @classmethod
    def shown(cls, picture: KeptPicture) -> "PictureView":
        """The view of a picture, with its addresses."""
        sizes = {width: url_of(name) for width, name in picture.sizes.items()}
        return cls.of(picture, url=url_of(picture.file), jpeg_url=url_of(picture.jpeg), sizes=sizes)
