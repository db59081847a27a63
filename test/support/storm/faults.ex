defmodule Cryptoki.Test.Storm.Faults do
  @moduledoc false
  # Control files by chance: codes, lengths, delays and garbage, for a while each.

  alias Cryptoki.Test.EveryCall.Fault
  alias Cryptoki.Test.Storm

  @functions ~w(C_Sign* C_Verify* C_Encrypt* C_Decrypt* C_Digest* C_Find* C_GetAttributeValue C_Generate*
                C_WrapKey C_UnwrapKey C_DeriveKey C_CreateObject C_CopyObject C_DestroyObject
                C_SetAttributeValue C_OpenSession C_CloseSession C_GetSessionInfo C_GetSlotList C_GetSlotInfo
                C_GetTokenInfo C_GetMechanism* C_SeedRandom C_SessionCancel C_GetInfo C_*Init C_*Final *)

  # Those with a buffer or a count to lie about.
  @lied ~w(C_Sign C_SignFinal C_Encrypt* C_Decrypt* C_Digest C_DigestFinal C_FindObjects C_GetAttributeValue
           C_GetSlotList C_GetMechanismList C_WrapKey)
  @lengths ~w(huge max +1 -1 +100 -100 0 1 7)
  @losses ["sessions forget", "logout", "token replug", "token remove", "sessions max=3"]

  @doc "The lines of one control file."
  @spec lines :: String.t()
  def lines, do: Enum.map_join(1..:rand.uniform(3), "\n", fn _ -> line(:rand.uniform(10)) end)

  defp line(n) when n <= 4, do: "#{Storm.one(@functions)} rv=#{code()} #{often()} #{behind()}"
  defp line(n) when n <= 6, do: "lie #{Storm.one(@lied)} length=#{Storm.one(@lengths)} #{often()}"
  defp line(7), do: "lie #{Storm.one(@lied)} garbage #{often()}"
  defp line(8), do: "#{Storm.one(@functions)} delay=#{:rand.uniform(20)} #{often()}"
  defp line(9), do: Storm.one(@losses)
  defp line(10), do: "#{Storm.one(@functions)} hang times=#{:rand.uniform(3)} #{often()}"

  defp code, do: Fault.hex(Storm.one(Fault.codes()))
  defp often, do: "every=#{Storm.one([1, 2, 3, 5, 10])} after=#{:rand.uniform(5) - 1}"
  defp behind, do: Storm.one(["", "after_forward"])
end
