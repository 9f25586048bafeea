from pydantic import BaseModel, Field

NO_MODEL = 3


class WidthOnly(BaseModel):
    width: int = Field(3, description="Width")


class OtherDefault(BaseModel):
    width: int = Field(4, description="Width")


class Nothing(BaseModel):
    pass


class OwnBound(BaseModel):
    width: int = Field(3, ge=4, description="Width")


class Groups(BaseModel):
    groups: int = Field(3, description="A key that the core keeps for itself")
