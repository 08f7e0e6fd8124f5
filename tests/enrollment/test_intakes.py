from tests.enrollment.clinic import Clinic, roster


async def test_smoke(clinic: Clinic) -> None:
    done = await clinic.import_roster(roster("E-1", "E-2"))
    print(done)
    await clinic.add_practitioner("pt")
    await clinic.add_practitioner("coach")
    print(await clinic.enrol())
    print(await clinic.published())
